/**
 * Make an element's children, from a position on, like some nodes.
 *
 * Only those are touched that differ: what the reader has selected stays selected, and what is
 * scrolled stays scrolled.
 *
 * @param isAll whether children beyond the nodes are removed.
 */
export function patch(parent, position, nodes, isAll) {
  const old = [...parent.childNodes].slice(position);
  nodes.forEach((node, index) => {
    if (!old[index]) parent.append(node);
    else if (!old[index].isEqualNode(node)) patchNode(old[index], node);
  });
  if (isAll) old.slice(nodes.length).forEach((node) => node.remove());
}

function patchNode(old, node) {
  if (old instanceof Text && node instanceof Text) {
    // Replacing the data would end a selection in it.
    if (node.data.startsWith(old.data)) old.appendData(node.data.slice(old.length));
    else old.data = node.data;
  } else if (!old.cloneNode(false).isEqualNode(node.cloneNode(false))) {
    old.replaceWith(node);
  } else if (old.nodeName !== "BUTTON") {
    patch(old, 0, [...node.childNodes], true);
  }
}
