// htmx with its extension for event streams. As modules of one graph they are run in one go, and
// htmx begins its work after all of them: an extension that came later would be left out.

import "./vendor/htmx.esm.min.js";
import "./vendor/hx-sse.min.js";
