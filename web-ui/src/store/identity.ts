// Ids of new records. crypto.randomUUID exists only on https and localhost; the page may also be served over plain
// http in the local network, where getRandomValues still works.

/** 128 random bits in hexadecimal. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
