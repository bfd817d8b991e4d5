"""Out of distribution: what is no chest radiograph, or one unlike those learnt from."""
