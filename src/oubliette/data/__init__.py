"""What a user brings and what is shipped: concepts, prompt banks, question sets, pictures; read, checked,
split.
"""
