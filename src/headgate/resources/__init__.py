"""Resources: named targets of calls, with fallbacks, routing and default arguments."""
