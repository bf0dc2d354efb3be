"""What a mask buys: fine-tuning under every learner's and baseline's masks, illegal and innocent."""
