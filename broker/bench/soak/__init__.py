"""A day in minutes: orders, polls and exams at a steady pace, and what the broker keeps of them."""
