"""A composed model as text and pictures, before anything is trained."""
