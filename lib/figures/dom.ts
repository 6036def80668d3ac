/**
 * A document for drawing Observable Plot figures outside a browser, and the step from its elements to SVG text.
 * linkedom is small and starts fast, but serializes as HTML: attributes keep `<` and `&`, and there is no `xmlns`, so
 * a file would not open in an SVG reader. `serializeSvg` writes XML, and shorter: pixel positions are rounded.
 *
 * @module
 */
import { parseHTML } from "linkedom";

let shared: Document | undefined;

/** The document that figures are drawn in, made on first use. It has no canvas, so Plot's color ramps do not work. */
export function figureDocument(): Document {
  shared ??= parseHTML("<!doctype html><html><body></body></html>").document as unknown as Document;
  return shared;
}

/** Attributes that hold pixel positions, and so never need more than two decimals. */
const PIXELS = new Set(["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "transform", "width", "height", "dy"]);

const ELEMENT = 1;
const TEXT = 3;

/**
 * The XML text of an SVG element and all below it.
 *
 * @param node An element or text node; `style` elements are left out, as figures carry their style in attributes.
 */
export function serializeSvg(node: Node): string {
  if (node.nodeType === TEXT) return escapeXml(node.textContent ?? "");
  if (node.nodeType !== ELEMENT) return "";
  const element = node as Element;
  const name = element.localName;
  if (name === "style") return "";
  let attributes = "";
  for (const { name, value } of Array.from(element.attributes)) {
    const text = PIXELS.has(name) ? roundNumbers(value) : value;
    attributes += ` ${name === "xlink:href" ? "href" : name}="${escapeXml(text)}"`;
  }
  let children = "";
  for (const child of Array.from(element.childNodes)) children += serializeSvg(child);
  return children === "" ? `<${name}${attributes}/>` : `<${name}${attributes}>${children}</${name}>`;
}

/** Text that is safe between XML tags and inside double quotes; what XML cannot hold at all becomes `\uFFFD`. */
export function escapeXml(text: string): string {
  return text.replace(/(?![\n\t])[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu, "\uFFFD")
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

function roundNumbers(text: string): string {
  return text.replace(/-?\d*\.\d{3,}(e[-+]?\d+)?/g, (number) => String(Math.round(Number(number) * 100) / 100));
}
