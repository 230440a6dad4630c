"""Pure functions: sequential timing verdicts, proportions, paired accuracy."""
