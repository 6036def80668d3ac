/**
 * Turns a value into the forms a screen can draw: HTML or PNG for notebooks, a line of text for terminals. SVG goes out
 * as HTML, because nbconvert's sanitizer empties `image/svg+xml` outputs. Styles are inline, because front ends drop
 * style sheets from outputs.
 *
 * @module
 */
import type { MimeBundle } from "./screen.ts";
import { escapeHtml, formatCell, htmlTable, textTable } from "./table.ts";

/** A vector picture: what the plots return. */
export interface SvgPicture {
  /** A complete SVG document. */
  readonly svg: string;
  /** In CSS pixels. */
  readonly widthPx: number;
  /** In CSS pixels. */
  readonly heightPx: number;
}

/** Decoded pixels. */
export interface RgbPixels {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Rows of RGB bytes, shape [height, width, 3]. */
  readonly data: Uint8Array;
}

/** A piece of HTML to show as it is, made by `html()`. */
export class Html {
  /** The HTML. */
  readonly source: string;

  /** Takes the HTML as it is. */
  constructor(source: string) {
    this.source = source;
  }
}

/**
 * Marks a string as HTML, so that `show()` renders it instead of printing it. It is not escaped: pass nothing that you
 * would not put into a page.
 */
export function html(source: string): Html {
  return new Html(source);
}

/** How a value is shown. */
export interface MediaOptions {
  /** Words under the output. @default {none} */
  readonly caption?: string;
  /** Width on the page in CSS pixels, of pictures. @default {the picture's own} */
  readonly widthPx?: number;
  /** Rows of a table that are shown. @default {20} */
  readonly maxRows?: number;
}

/**
 * The forms of `value`; the kinds of value are listed at `show()`.
 *
 * @throws {TypeError} if bytes are not a PNG
 */
export async function toMimeBundle(value: unknown, options: MediaOptions = {}): Promise<MimeBundle> {
  const text = describe(value, options);
  if (options.caption === undefined && options.widthPx === undefined) {
    const png = isRgbPixels(value) ? await encodePng(value) : value;
    if (isPng(png)) return { "text/plain": text, "image/png": toBase64(png) };
  }
  const body = await toHtml(value, options);
  if (body === undefined) return { "text/plain": text };
  const caption = options.caption === undefined
    ? ""
    : `<div style="margin-top:4px;color:#667085;font:13px system-ui,sans-serif">${escapeHtml(options.caption)}</div>`;
  return { "text/plain": text, "text/html": body + caption };
}

/** HTML of a value, or undefined where plain text does better. */
async function toHtml(value: unknown, options: MediaOptions): Promise<string | undefined> {
  if (value instanceof Html) return value.source;
  if (isSvgPicture(value)) return svgHtml(value, options.widthPx);
  if (isRgbPixels(value)) return pngHtml(await encodePng(value), options.widthPx ?? value.width);
  if (value instanceof Uint8Array) return pngHtml(requirePng(value), options.widthPx);
  if (Array.isArray(value) && value.length > 0) {
    if (value.every(isPicture)) {
      const cells = await Promise.all(value.map((picture) => toHtml(picture, options)));
      return `<div style="display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start">${cells.join("")}</div>`;
    }
    if (value.every(isRecord)) return await recordsTable(value, options);
  }
  if (isPlainObject(value)) return await recordsTable(asRecords(value), { maxRows: Infinity });
  return undefined;
}

async function recordsTable(records: Record<string, unknown>[], options: MediaOptions): Promise<string> {
  return await htmlTable(records, {
    maxRows: options.maxRows,
    cell: async (value) => isPicture(value) || value instanceof Html ? await toHtml(value, {}) : undefined,
  });
}

/** One line for a terminal; a table is several. */
function describe(value: unknown, options: MediaOptions): string {
  const caption = options.caption === undefined ? "" : `${options.caption}: `;
  if (typeof value === "string") return caption + value;
  if (value instanceof Html) return `${caption}HTML, ${value.source.length} characters`;
  if (isSvgPicture(value)) return `${caption}figure, ${value.widthPx} x ${value.heightPx} px`;
  if (isRgbPixels(value)) return `${caption}image, ${value.width} x ${value.height} px`;
  if (isPng(value)) {
    const { width, height } = pngSize(value);
    return `${caption}PNG, ${width} x ${height} px, ${(value.length / 1024).toFixed(1)} KiB`;
  }
  if (Array.isArray(value) && value.length > 0) {
    if (value.every(isPicture)) return caption + value.map((picture) => describe(picture, {})).join("; ");
    if (value.every(isRecord)) return (caption && caption + "\n") + textTable(value, { maxRows: options.maxRows });
  }
  if (isPlainObject(value)) {
    return (caption && caption + "\n") + textTable(asRecords(value), { maxRows: Infinity });
  }
  return caption + formatCell(value);
}

/** A lone object as a table of two columns. */
function asRecords(object: Record<string, unknown>): Record<string, unknown>[] {
  return Object.entries(object).map(([name, value]) => ({ name, value }));
}

/** A literal with something in it; instances of classes say more as text. */
function isPlainObject(value: unknown): value is Record<string, unknown> {
  return isRecord(value) && Object.getPrototypeOf(value)?.constructor?.name === "Object" &&
    Object.keys(value).length > 0;
}

function isPicture(value: unknown): boolean {
  return isSvgPicture(value) || isRgbPixels(value) || isPng(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

function isSvgPicture(value: unknown): value is SvgPicture {
  return isRecord(value) && typeof value.svg === "string" && typeof value.widthPx === "number" &&
    typeof value.heightPx === "number";
}

function isRgbPixels(value: unknown): value is RgbPixels {
  return isRecord(value) && typeof value.width === "number" && typeof value.height === "number" &&
    value.data instanceof Uint8Array && value.data.length === value.width * value.height * 3;
}

const pngSignature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Whether the bytes start as a PNG file with its size (24 bytes) does. */
function isPng(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array && value.length >= 24 && pngSignature.every((byte, i) => value[i] === byte);
}

function requirePng(bytes: Uint8Array): Uint8Array {
  const start = Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  if (isPng(bytes)) return bytes;
  throw new TypeError(`Cannot show bytes: bytes must be a PNG file, current value starts with [${start}]`);
}

function pngSize(png: Uint8Array): { width: number; height: number } {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

/** Inline, so that links and tips in the drawing work; on a light ground in every theme, because plots have dark text. */
function svgHtml(picture: SvgPicture, widthPx = picture.widthPx): string {
  const heightPx = Math.round(picture.heightPx * widthPx / picture.widthPx);
  const drawing = picture.svg.slice(Math.max(0, picture.svg.indexOf("<svg"))) // past an XML declaration
    .replace(/^<svg[^>]*>/, (tag) => {
      const viewBox = /\sviewBox=/.test(tag) ? "" : ` viewBox="0 0 ${picture.widthPx} ${picture.heightPx}"`;
      const rest = tag.slice("<svg".length).replace(/\s(width|height)="[^"]*"/g, "");
      return `<svg width="${widthPx}" height="${heightPx}"${viewBox}${rest}`;
    });
  return `<div style="display:inline-block;max-width:100%;overflow-x:auto;background:#fff;color-scheme:light">${drawing}</div>`;
}

function pngHtml(png: Uint8Array, widthPx = pngSize(png).width): string {
  return `<img width="${widthPx}" style="max-width:100%;height:auto" src="data:image/png;base64,${toBase64(png)}">`;
}

async function encodePng(image: RgbPixels): Promise<Uint8Array> {
  const { default: sharp } = await import("sharp"); // only here, so that a page without sharp can show the rest
  const raw = { width: image.width, height: image.height, channels: 3 as const };
  return new Uint8Array(await sharp(image.data, { raw }).png().toBuffer());
}

/** Through `btoa` in slices: `Buffer` is missing in browsers, `toBase64()` in Node 20. */
function toBase64(bytes: Uint8Array): string {
  const sliceLength = 0x8000; // arguments one call can take everywhere
  let binary = "";
  for (let i = 0; i < bytes.length; i += sliceLength) {
    binary += String.fromCharCode(...bytes.subarray(i, i + sliceLength));
  }
  return btoa(binary);
}
