"""GraphQL: the same questions as over REST, several in one request, of each answer only what is wanted."""
