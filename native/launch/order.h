// The other end of native/front/child.h.
#ifndef BERTH_LAUNCH_ORDER_H_
#define BERTH_LAUNCH_ORDER_H_

namespace berth {

// Takes the message of ../common/order.h: all is then as if this program had been executed with these arguments and descriptors. False where none comes.
bool TakeOrder(int* argc, char*** argv);

}  // namespace berth

#endif  // BERTH_LAUNCH_ORDER_H_
