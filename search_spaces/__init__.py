"""Search spaces: domains as plain data, the spaces a study is made of, and their conversion to Tune and to Optuna."""
