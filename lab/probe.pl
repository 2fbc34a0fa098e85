# Tries to get out of a container. Fed to perl inside of it by probe.py; needs nothing but perl-base.
# Reads lines "number<TAB>kind<TAB>arguments…", tries them side by side in one process each, and prints
# "number<TAB>outcome": a word that says what happened.
use strict;
use warnings;
use Socket qw(:DEFAULT inet_pton getaddrinfo pack_sockaddr_in6);
use POSIX qw(:errno_h :sys_wait_h);

my $seconds = 3;
my ($x86) = grep { $_ eq 'x86_64' } (POSIX::uname())[4];
# Of the kernel's tables for x86_64 and for the generic one (aarch64).
my %number = (
    mount => [165, 40], unshare => [272, 97], keyctl => [250, 219], add_key => [248, 217], ptrace => [101, 117],
    mknodat => [259, 33], bpf => [321, 280], perf_event_open => [298, 241], init_module => [175, 105],
    kexec_load => [246, 104], reboot => [169, 142], settimeofday => [170, 170], setns => [308, 268],
    open_by_handle_at => [304, 265], pivot_root => [155, 41], swapon => [167, 224], userfaultfd => [323, 282],
    chroot => [161, 51],
);

sub why { return $! == EPERM || $! == EACCES || $! == EROFS ? 'refused' : $! == ENOENT ? 'absent' : "error $!" }

sub call {
    my ($name, @arguments) = @_;
    my $at = $number{$name}[$x86 ? 0 : 1];
    $! = 0;
    return syscall($at, map { /^-?\d+\z/ ? $_ + 0 : "$_" } @arguments) >= 0 ? 'done' : why();
}

my %try = (
    # Whether anything there talks to us. "closed": the host itself said that nobody listens.
    tcp => sub {
        my ($host, $port) = @_;
        socket(my $socket, AF_INET, SOCK_STREAM, 0) or return why();
        return 'open' if connect($socket, pack_sockaddr_in($port, inet_aton($host)));
        return $! == ECONNREFUSED ? 'closed' : 'blocked';
    },
    tcp6 => sub {
        my ($host, $port) = @_;
        my ($error, $found) = getaddrinfo($host, $port, { family => AF_INET6, socktype => SOCK_STREAM });
        return 'blocked' if $error || !$found;
        socket(my $socket, AF_INET6, SOCK_STREAM, 0) or return 'blocked';
        return 'open' if connect($socket, $found->{addr});
        return $! == ECONNREFUSED ? 'closed' : 'blocked';
    },
    # An answer to a question by UDP.
    dns => sub {
        my ($host) = @_;
        socket(my $socket, AF_INET, SOCK_DGRAM, 0) or return why();
        my $question = pack('n6', 4711, 0x100, 1, 0, 0, 0) . "\x07example\x03org\0" . pack('nn', 1, 1);
        send($socket, $question, 0, pack_sockaddr_in(53, inet_aton($host))) or return 'blocked';
        return defined recv($socket, my $answer, 512, 0) ? 'open' : 'blocked';
    },
    addresses6 => sub {
        open(my $file, '<', '/proc/net/if_inet6') or return 'none';
        my @found = grep { !/ lo$/ } map { s/\s+$//r } <$file>;
        return @found ? 'some' : 'none';
    },
    socket => sub {
        my ($family, $type, $protocol) = @_;
        return socket(my $socket, $family, $type, $protocol) ? 'done' : why();
    },
    syscall => \&call,
    mknod => sub {
        my ($path, $device) = @_;
        my $outcome = call('mknodat', -100, $path, 0060000 | 0600, $device);
        unlink $path;
        return $outcome;
    },
    create => sub {
        my ($path) = @_;
        open(my $file, '>', $path) or return why();
        close $file;
        unlink $path;
        return 'done';
    },
    # Into what is there: never makes a file.
    write => sub {
        my ($path, $text) = @_;
        open(my $file, '+<', $path) or return why();
        $! = 0;
        return (defined syswrite($file, $text) && close $file) ? 'done' : why();
    },
    read => sub {
        my ($path) = @_;
        open(my $file, '<', $path) or return why();
        $! = 0;
        my $got = sysread($file, my $buffer, 64);
        return defined $got ? ($got ? 'done' : 'empty') : why();
    },
    there => sub { return -e $_[0] ? 'there' : 'absent' },
    devices => sub {
        opendir(my $folder, '/dev') or return why();
        my %usual = map { $_ => 1 } qw(. .. core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero console);
        my @more = grep { !$usual{$_} } readdir $folder;
        return @more ? 'more: ' . join(' ', sort @more) : 'usual';
    },
    status => sub {
        my ($name) = @_;
        open(my $file, '<', '/proc/self/status') or return why();
        for (<$file>) { return $1 if /^\Q$name\E:\s*(\S+)/ }
        return 'absent';
    },
    capabilities => sub {
        my (@bits) = @_;
        open(my $file, '<', '/proc/self/status') or return why();
        my $have = 0;
        for (<$file>) { $have |= hex($1) if /^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s*([0-9a-f]+)/ }
        my $allowed = 0;
        $allowed |= 1 << $_ for @bits;
        return $have & ~$allowed ? sprintf('more: %x', $have & ~$allowed) : 'few';
    },
    # Whether a program that belongs to root and is marked set-user-id makes us root.
    setuid => sub {
        my ($program) = @_;
        my $answer = `$program -u 2>&1`;
        return $answer =~ /^0$/ ? 'done' : $answer =~ /^\d+$/ ? 'refused' : 'absent';
    },
    # Processes until one is refused; as many as there are then, beside those that were there before.
    fork => sub {
        my ($most) = @_;
        my @children;
        while (@children < $most) {
            my $child = fork();
            last unless defined $child;
            if (!$child) { sleep 60; POSIX::_exit(0) }
            push @children, $child;
        }
        kill 'KILL', @children;
        waitpid $_, 0 for @children;
        return @children < $most ? 'limited' : 'done';
    },
    files => sub {
        my ($most) = @_;
        my @open;
        while (@open < $most) { open(my $file, '<', '/dev/null') or last; push @open, $file }
        return @open < $most ? 'limited' : 'done';
    },
    memory => sub {
        my ($mib) = @_;
        my @held;
        push @held, 'x' x 2**20 for 1 .. $mib;
        return 'done';
    },
    processes => sub {
        opendir(my $folder, '/proc') or return why();
        my @found = grep { /^\d+$/ } readdir $folder;
        return @found > $_[0] ? 'more: ' . @found : 'own';
    },
);

$| = 1;
my @running;
while (my $line = <STDIN>) {
    chomp $line;
    my ($number, $kind, @arguments) = split /\t/, $line;
    pipe(my $out, my $in);
    my $child = fork() // die "no process could be made: $!";
    if (!$child) {
        close $out;
        local $SIG{ALRM} = sub { syswrite $in, 'blocked'; POSIX::_exit(0) };
        alarm($kind =~ /^(fork|memory|files)$/ ? 20 : $seconds);
        my $outcome = eval { $try{$kind}->(@arguments) } // "error $@";
        syswrite $in, $outcome;
        POSIX::_exit(0);
    }
    close $in;
    push @running, [$number, $child, $out];
}
for (@running) {
    my ($number, $child, $out) = @$_;
    my $outcome = join '', <$out>;
    waitpid $child, 0;
    $outcome = 'killed' if $outcome eq '' && ($? & 127) == 9;
    $outcome =~ s/\s+/ /g;
    print "$number\t$outcome\n";
}
