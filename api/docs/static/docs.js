// Renders /openapi.json as a list of operations. All text goes in by textContent: nothing of it is markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const child of children) node.append(child);
  return node;
}

function resolve(spec, node) {
  while (node && node.$ref) node = node.$ref.slice(2).split("/").reduce((at, key) => at[key], spec);
  return node;
}

function example(spec, media) {
  if (!media) return undefined;
  if (media.example !== undefined) return media.example;
  const named = Object.values(media.examples ?? {})[0];
  if (named) return named.value;
  const schema = resolve(spec, media.schema);
  return schema?.examples?.[0] ?? schema?.example;
}

function shown(value) {
  return make("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

function parameters(spec, operation, inputs) {
  const table = make("table", {}, make("tr", {}, ...["parameter", "in", "meaning", "value"].map((h) => make("th", {}, h))));
  for (const raw of operation.parameters ?? []) {
    const one = resolve(spec, raw);
    const schema = resolve(spec, one.schema) ?? {};
    const first = one.example ?? schema.examples?.[0] ?? schema.default ?? "";
    const input = make("input", { "aria-label": one.name, placeholder: one.required ? "required" : "" });
    input.value = one.in === "header" ? "" : first ?? "";
    inputs.push({ name: one.name, place: one.in, input });
    table.append(make("tr", {}, make("td", {}, make("code", {}, one.name)), make("td", {}, one.in),
      make("td", {}, one.description ?? schema.description ?? ""), make("td", {}, input)));
  }
  return table;
}

function attempt(path, inputs) {
  const output = make("pre", { hidden: "" });
  const button = make("button", { type: "button" }, "Try it");
  button.addEventListener("click", async () => {
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    const token = document.getElementById("token").value;
    if (token) headers.Authorization = `Bearer ${token}`;
    for (const { name, place, input } of inputs) {
      if (!input.value) continue;
      if (place === "path") target = target.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (place === "query") query.set(name, input.value);
      else headers[name] = input.value;
    }
    output.hidden = false;
    try {
      const answer = await fetch(query.size ? `${target}?${query}` : target, { headers });
      const text = await answer.text();
      output.textContent = `${answer.status} ${answer.statusText}\n${text.slice(0, 20000)}`;
    } catch (error) {
      output.textContent = String(error);
    }
  });
  return [button, output];
}

function article(spec, method, path, operation) {
  const inputs = [];
  const node = make("article", { id: operation.operationId },
    make("h2", {}, operation.summary ?? path),
    make("p", { class: "path" }, make("span", { class: `method ${method}` }, method.toUpperCase()), path),
    make("p", {}, (operation.description ?? "").replaceAll("``", "\"")));
  if (operation.parameters?.length) node.append(parameters(spec, operation, inputs));
  const body = example(spec, operation.requestBody?.content?.["application/json"]);
  if (body !== undefined) node.append(make("h3", {}, "Body"), shown(body));
  if (method === "get") node.append(...attempt(path, inputs));
  for (const [status, raw] of Object.entries(operation.responses ?? {})) {
    const details = make("details", {}, make("summary", {}, `${status} ${raw.description ?? ""}`));
    for (const [type, media] of Object.entries(raw.content ?? {})) {
      const value = example(spec, media);
      details.append(make("p", {}, type));
      if (value !== undefined) details.append(shown(value));
    }
    node.append(details);
  }
  return node;
}

async function main() {
  const spec = await (await fetch("/openapi.json")).json();
  document.getElementById("title").textContent = `${spec.info.title} ${spec.info.version}`;
  document.getElementById("description").textContent = spec.info.description ?? "";
  const operations = document.getElementById("operations");
  const contents = document.getElementById("contents");
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const operation = item[method];
      operations.append(article(spec, method, path, operation));
      contents.append(make("a", { href: `#${operation.operationId}` },
        make("span", { class: `method ${method}` }, method.toUpperCase()), `${path} - ${operation.summary ?? ""}`));
    }
  }
}

main();
