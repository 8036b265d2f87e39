"""Image encoders: preprocessing, features, and the joining of several views."""
