"""What a rendered stack costs in a month, by AWS's list prices."""
