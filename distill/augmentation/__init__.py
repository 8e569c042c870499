"""Pictures and the views of them that teacher and student see, each made again from a seed."""
