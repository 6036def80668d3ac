/**
 * Arrays of objects as small tables: HTML for notebooks, aligned columns for terminals. Columns are the objects' keys in
 * the order in which they first appear; numbers are rounded to four significant digits and set flush right.
 *
 * @module
 */

/** What both tables take. */
export interface TableOptions {
  /** Rows that are shown; a line below says how many are left. @default {20} */
  readonly maxRows?: number;
}

/** What the HTML table also takes. */
export interface HtmlTableOptions extends TableOptions {
  /** HTML of a value that is not text, such as a picture; undefined for text. */
  readonly cell: (value: unknown) => Promise<string | undefined>;
}

const defaultMaxRows = 20;

/** Values of an array that a cell shows. */
const maxArrayValues = 6;

/** Text of one value: numbers to four significant digits, absent values empty, objects as JSON. */
export function formatCell(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "string") return value;
  if (ArrayBuffer.isView(value) && "length" in value) return formatArray(value as unknown as ArrayLike<unknown>);
  if (Array.isArray(value) && value.length > maxArrayValues) return formatArray(value);
  if (typeof value === "object") return JSON.stringify(value, jsonValue) ?? String(value);
  return String(value);
}

/** Escapes text for HTML content and attribute values. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}

/** The rows as text with aligned columns; ends without a line break. */
export function textTable(records: readonly Record<string, unknown>[], options: TableOptions = {}): string {
  const { columns, shown, nLeft } = layOut(records, options);
  const cells = [columns, ...shown.map((record) => columns.map((column) => formatCell(record[column])))];
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => terminalColumns(row[i]))));
  const isNumeric = columns.map((column) => shown.every((record) => isNumber(record[column])));
  const lines = cells.map((row) =>
    row.map((text, i) => {
      const padding = " ".repeat(widths[i] - terminalColumns(text));
      return isNumeric[i] ? padding + text : text + padding;
    }).join("  ").trimEnd()
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  if (nLeft > 0) lines.push(`… ${nLeft} more`);
  return lines.join("\n");
}

/** The rows as an HTML table. */
export async function htmlTable(
  records: readonly Record<string, unknown>[],
  options: HtmlTableOptions,
): Promise<string> {
  const { columns, shown, nLeft } = layOut(records, options);
  const styles = columns.map((column) => {
    const side = shown.every((record) => isNumber(record[column])) ? "right" : "left";
    return `padding:4px 12px;text-align:${side};vertical-align:middle;`;
  });
  const headStyle = "font-weight:600;border-bottom:1px solid #98a2b3";
  const head = columns.map((column, i) => `<th style="${styles[i]}${headStyle}">${escapeHtml(column)}</th>`);
  const rows = await Promise.all(shown.map(async (record) => {
    const cells = await Promise.all(columns.map(async (column, i) => {
      const content = await options.cell(record[column]) ?? escapeHtml(formatCell(record[column]));
      return `<td style="${styles[i]}border-bottom:1px solid #eaecf0">${content}</td>`;
    }));
    return `<tr>${cells.join("")}</tr>`;
  }));
  const left = nLeft > 0 ? `<div style="padding:4px 12px;color:#667085">… ${nLeft} more</div>` : "";
  return `<div style="overflow-x:auto;font:13px system-ui,sans-serif">` +
    `<table style="border-collapse:collapse;margin:0;font-variant-numeric:tabular-nums">` +
    `<thead><tr>${head.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>${left}</div>`;
}

function layOut(records: readonly Record<string, unknown>[], options: TableOptions) {
  const shown = records.slice(0, options.maxRows ?? defaultMaxRows);
  const columns = [...new Set(shown.flatMap((record) => Object.keys(record)))];
  return { columns, shown, nLeft: records.length - shown.length };
}

function isNumber(value: unknown): boolean {
  return typeof value === "number" || typeof value === "bigint";
}

function formatNumber(value: number): string {
  if (!Number.isFinite(value) || Number.isInteger(value)) return String(value);
  const rounded = Number(value.toPrecision(4));
  const size = Math.abs(rounded);
  return size >= 1e6 || size < 1e-4 ? rounded.toExponential() : String(rounded);
}

/** Columns that text takes in a terminal: emoji, of however many code points, and East Asian characters take two. */
function terminalColumns(text: string): number {
  const isWide =
    /\p{Emoji_Presentation}|\uFE0F|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}/u;
  let columns = 0;
  for (const { segment } of new Intl.Segmenter().segment(text)) columns += isWide.test(segment) ? 2 : 1;
  return columns;
}

/** The first values and the length: nobody wants 192 numbers in a cell. */
function formatArray(values: ArrayLike<unknown>): string {
  const nShown = Math.min(values.length, maxArrayValues);
  const start = Array.from({ length: nShown }, (_, i) => formatCell(values[i])).join(", ");
  return values.length > nShown ? `[${start}, … ${values.length} values]` : `[${start}]`;
}

/** Typed arrays, big integers and rounded numbers inside JSON. */
function jsonValue(_key: string, value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return formatCell(value);
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" && Number.isFinite(value)) return Number(value.toPrecision(4));
  return value;
}
