"""What Pillow cannot do: 16 bits a colour, animations frame by frame, sizes before decoding."""
