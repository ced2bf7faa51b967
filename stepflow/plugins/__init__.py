"""Who answers for components in this process."""
