// An own file, because the page's Content-Security-Policy allows no inline scripts.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api-reference",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  // Otherwise Swagger UI sends the document's address to validator.swagger.io.
  validatorUrl: null,
});
