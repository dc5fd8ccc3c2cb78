/** Flags for V8, of evert and of what measures it; before anything else is loaded. */
import { setFlagsFromString } from 'node:v8'

// The young generation stays as small as it starts: what is made per row is gone with it, and memory that V8 would take for more is wasted. The old one
// is collected once it is a quarter larger than what lives, not three times: 30 MB of that, with thousands of partitions, would become 90.
setFlagsFromString('--semi-space-growth-factor=1')
setFlagsFromString('--heap-growing-percent=25')
