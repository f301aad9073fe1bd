"""Affiliate sharing: settled payments go to affiliates that customers name, as far as all of them allow."""
