"""The ground floor: types, checks of arguments, the loops, and safe arithmetic."""
