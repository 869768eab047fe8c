"""The registry of trained models, installed as `kerashash.pretrained`."""
