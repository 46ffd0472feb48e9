// A login link has its token behind the #, which browsers send to nobody; this sends it to the server that it is for.
"use strict";
const form = document.querySelector("form");
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname);
  form.elements.key.value = token;
  form.requestSubmit();
}
