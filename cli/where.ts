/**
 * `--where`: chooses images by their label and their tags.
 *
 * @module
 */
import { InvalidArgumentError } from "commander";
import { selectImages } from "../lib/images/select.ts";
import type { ImageInfo, ImageSource } from "../lib/images/source.ts";

/** Values that a tag may have, by its name. */
export type Conditions = ReadonlyMap<string, ReadonlySet<string>>;

/** Parses `name=value`, and adds it to those before: of one name either value will do, of several all must hold. */
export function condition(text: string, before: Conditions = new Map()): Conditions {
  const [, name, value] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (name === undefined) throw new InvalidArgumentError("It must be a tag and its value, such as split=train.");
  return new Map([...before, [name, new Set([...before.get(name) ?? [], value])]]);
}

// Values that an error lists, at most.
const maxListed = 10;

/**
 * Indices of the images that meet all conditions.
 *
 * @throws {RangeError} If the images have no such tag, or none of them such a value.
 */
export function selectWhere(images: ImageSource, conditions: Conditions): number[] {
  for (const [name, wanted] of conditions) {
    const found = new Set<string>();
    const names = new Set<string>();
    for (let image = 0; image < images.nImages; image++) {
      const tags = tagsOf(images.info(image));
      for (const tag of Object.keys(tags)) names.add(tag);
      if (Object.hasOwn(tags, name)) found.add(tags[name]);
    }
    if (!names.has(name)) {
      const known = names.size === 0
        ? "one that the images have, they have none"
        : `one of ${[...names].sort().join(", ")}`;
      throw new RangeError(
        `Cannot choose images of ${images.location}: tag must be ${known}, current value is ${name}`,
      );
    }
    for (const value of wanted) {
      if (found.has(value)) continue;
      const values = [...found].sort();
      const listed = values.slice(0, maxListed).join(", ") + (values.length > maxListed ? ", …" : "");
      throw new RangeError(
        `Cannot choose images of ${images.location}: ${name} must be one of ${listed}, current value is ${value}`,
      );
    }
  }
  const selected = selectImages(images, (info) => {
    const tags = tagsOf(info);
    return [...conditions].every(([name, wanted]) => Object.hasOwn(tags, name) && wanted.has(tags[name]));
  });
  if (selected.length > 0) return selected;
  const asked = [...conditions].map(([name, values]) => `${name}=${[...values].join("|")}`).join(" and ");
  throw new RangeError(`Cannot choose images of ${images.location}: some image must have ${asked}, none has`);
}

/** The label counts as a tag. */
function tagsOf({ label, tags }: ImageInfo): Readonly<Record<string, string>> {
  return label === undefined ? tags : { ...tags, label };
}
