"""Out-of-distribution detection: images other than chest radiographs, or unlike the training images."""
