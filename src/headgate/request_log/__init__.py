"""Keep requests to the model API: what was asked, what happened, and on wish the bodies."""
