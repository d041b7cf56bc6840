"""Operations on resources, and the routes that calls take through them."""
