"""The words of the framework as frozen types. This room imports nothing but the standard library."""
