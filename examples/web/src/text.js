// Text of models and files, which may come from a stranger, as it is shown on the page.

/**
 * Replaces characters that act instead of being shown by their codes, such as "\\u{202e}": control
 * characters, line breaks, and marks that reverse the order of the following characters.
 *
 * @param {string} text - Any text.
 * @returns {string}
 */
export function escapeText(text) {
  return text.replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0).toString(16)}}`,
  );
}
