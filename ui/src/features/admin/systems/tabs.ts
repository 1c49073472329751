export const SYSTEM_TABS = [{ to: '/templates', label: 'Templates' }, { to: '/isos', label: 'Images to boot from' }];
export const SYSTEM_SUB = 'What servers are installed with, and images that people boot them from.';
export const METHODS: Record<string, string> = { copy: 'Image, or installer from the network', oob: 'Installation medium in the BMC', onie: 'ONIE (switches)', ds_lxd: 'LXD' };
export const READY: Record<string, string> = { wait_for_power_off: 'The machine switches itself off', wait_for_signal_from_os: 'The new system calls its ready address', wait_for_ssh: 'An SSH server answers', wait_for_api_response: 'An address of the new system answers' };
export const WAYS: Record<string, string> = { image: 'a disk image is written by the boot image’s agent', network: 'the distribution’s installer is started from the network', media: 'the installation medium is put into the BMC' };
