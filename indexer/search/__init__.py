"""The search index: which events have which words, in files beside the index that may be deleted at any time."""
