"""What operators ask the running cell over HTTP."""
