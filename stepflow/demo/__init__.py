"""The main job: an audit of all Python source that this interpreter can import."""
