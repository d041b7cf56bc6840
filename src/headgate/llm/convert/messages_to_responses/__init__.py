"""Convert Anthropic's Messages API to OpenAI's Responses API and back: pure functions."""
