"""The values and rules of capacity: windows, what they count, and priority pools."""
