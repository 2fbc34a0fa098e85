"""The frame of the admin's pages: look, navigation, and what every page of a model does. Knows no app's models."""
