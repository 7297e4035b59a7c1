// Swagger UI on the chat's OpenAPI document; the session's cookie goes with what is tried out.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.onchange = paint;
paint();

window.SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: document.getElementById("swagger-ui").dataset.document,
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null, // it would send the document to somebody else's server
});
