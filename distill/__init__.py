"""Fast distillation: a teacher's answers stored once, students trained from the store; needs the extra "train"."""
