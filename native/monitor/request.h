// The requests of clients: from a frame to an act.
#ifndef BERTH_MONITOR_REQUEST_H_
#define BERTH_MONITOR_REQUEST_H_

#include "../common/arena.h"
#include "../common/tags.h"

namespace berth {

class Connection;

// Does what the frame asks; the connection gets its reply now or later.
void TakeRequest(Connection* connection, Frame type, Bytes payload);
// No reply is wanted by it any more.
void ForgetConnection(const Connection* connection);

}  // namespace berth

#endif  // BERTH_MONITOR_REQUEST_H_
