"""The component `udf`: functions that come as text in blobs, called in processes with limits."""
