import study  # noqa: F401  Ray reads the environment that this sets when it is imported
