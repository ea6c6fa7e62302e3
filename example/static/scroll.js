/** How far from the end of the page still counts as its end, in pixels. */
const NEAR = 60;

const page = document.documentElement;

export function isAtEnd() {
  return innerHeight + scrollY >= page.scrollHeight - NEAR;
}

export function scrollToEnd() {
  scrollTo(0, page.scrollHeight);
}

/** Change the page, and stay at its end if that was in view. */
export function keepingTheEndInView(change) {
  const wasAtEnd = isAtEnd();
  change();
  if (wasAtEnd) scrollToEnd();
}
