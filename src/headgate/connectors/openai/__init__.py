"""The connector of OpenAI: chat, responses, images, embeddings and models, as actions. Every call
goes through the call pipeline, as the same request of a client does."""
