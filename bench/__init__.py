"""The performance harness: Headgate, its limit (nginx) and its peers on one core, in one run."""
