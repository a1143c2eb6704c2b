// Shows the document. What the query function answers is asked where this page came from, whatever the
// document's default is; the other functions' addresses can be changed on the page.
"use strict";

async function show() {
  const answer = await fetch("spec.json");
  if (!answer.ok) {
    throw new Error(`spec.json: ${answer.status} ${answer.statusText}`);
  }
  const spec = await answer.json();
  const here = new URL("..", document.baseURI).href.replace(/\/$/, "");
  for (const path of Object.values(spec.paths)) {
    for (const server of path.servers) {
      if (server.variables.query) {
        server.variables.query.default = here;
      }
    }
  }
  SwaggerUIBundle({
    spec,
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    validatorUrl: null,
  });
}

show().catch((error) => {
  document.getElementById("swagger-ui").textContent = String(error);
});
