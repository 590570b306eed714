/** The runtime-spec that berth follows; configurations of every 1.x are taken. */
export const OCI_VERSION = '1.3.0'
