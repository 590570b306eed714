/**
 * Turns the OCI section linux.seccomp into a classic BPF program for seccomp(2), without libseccomp.
 *
 * A *profile* is docker's form, with conditions (capabilities, architecture, kernel); `readProfile` makes of it, or of a section of the OCI, the section for one
 * container; `defaultSeccomp` makes the one for containers that ask for nothing. `compileSeccomp` makes the program. All are pure: the same values give the
 * same bytes, so a caller may keep programs by the content they were made from.
 *
 * The program: which architecture, then a binary search over the numbers of its calls, then at most the comparisons of one call's arguments.
 */

export { type Compiled, compileSeccomp } from './compile.ts'
export { COMPARISONS, SECCOMP_ACTIONS, SECCOMP_ARCHITECTURES, SECCOMP_FLAGS } from './constants.ts'
export { defaultSeccomp } from './default.ts'
export { type ProfileContext, readProfile } from './profile.ts'
