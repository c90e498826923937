#include "optim/soap.h"

bool soap_direction(const Kernels *kernels, const Update *update, const HyperOptions *hyper, SoapRoom room) {
    (void)kernels, (void)update, (void)hyper, (void)room;
    DIE(EXIT_INTERNAL, "soap");
}
