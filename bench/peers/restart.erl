%% SPDX-License-Identifier: Apache-2.0
%% A one_for_one supervisor whose only child owns a port program: it ends when the program does.
-module(restart).
-behaviour(supervisor).
-export([main/1, start/1, init/1, loop/1]).

main([Program, Fifo]) ->
    {ok, _} = supervisor:start_link({local, top}, ?MODULE, [Program, Fifo]),
    receive stop -> ok end.

init(Words) ->
    Child = #{id => beat, start => {?MODULE, start, [Words]}, restart => permanent},
    {ok, {#{strategy => one_for_one, intensity => 100000, period => 1}, [Child]}}.

start([Program, Fifo]) ->
    Parent = self(),
    Pid = spawn_link(fun() ->
        Port = open_port({spawn_executable, Program}, [{args, [Fifo]}, exit_status]),
        Parent ! {self(), ready},
        loop(Port)
    end),
    receive {Pid, ready} -> {ok, Pid} end.

loop(Port) ->
    receive
        {Port, {exit_status, _}} -> exit(died);
        _ -> loop(Port)
    end.
