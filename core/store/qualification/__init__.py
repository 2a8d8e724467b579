"""What is known of leads, the models that judge them, and who gets them."""
