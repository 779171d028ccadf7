"""The pytest plugin's working part: imported when a test run asks for it."""
